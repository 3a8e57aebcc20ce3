-- usable: which keys of a script have the type that it needs; it leaves the others as they are.
--
-- wrong             those keys that are of another type
-- usable(at, kind)  whether KEYS[at] is of this type, or missing
local wrong = {}
local function usable(at, kind)
    local found = redis.call("TYPE", KEYS[at]).ok
    if found == "none" or found == kind then return true end
    wrong[#wrong + 1] = KEYS[at]
    return false
end
