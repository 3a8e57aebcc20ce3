-- check_keys: tells which keys are of another type than expected, or counters that cannot be incremented.
--
-- KEYS[1..n]  (STRING)  a counter, or a key of any other type
-- ARGV[1..n]  the type that is expected of each key in the order of KEYS, "integer" for a counter
-- returns     for each key "", or what it is: its type, or of a counter its value
local found = {}
for i, key in ipairs(KEYS) do
    local kind = redis.call("TYPE", key).ok
    local expected = ARGV[i] == "integer" and "string" or ARGV[i]
    found[i] = (kind == "none" or kind == expected) and "" or "a " .. kind
    if kind == "string" and ARGV[i] == "integer" then
        local value = redis.call("GET", key)
        local digits = string.match(value, "^-?([1-9]%d*)$") or (value == "0" and value)
        -- 9e18 is near enough to what a counter can hold: 2^63 - 1.
        if not digits or #digits > 19 or tonumber(digits) > 9e18 then
            found[i] = "'" .. string.sub(value, 1, 40) .. "'"
        end
    end
end
return found
