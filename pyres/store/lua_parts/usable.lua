-- usable: checks which keys of a script have the type that it needs; the others are left unchanged.
--
-- wrong             the keys of the wrong type
-- usable(at, kind)  whether KEYS[at] has this type, or is missing
local wrong = {}
local function usable(at, kind)
    local actual = redis.call("TYPE", KEYS[at]).ok
    if actual == "none" or actual == kind then return true end
    wrong[#wrong + 1] = KEYS[at]
    return false
end
