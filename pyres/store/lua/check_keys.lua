-- check_keys: finds keys of the wrong type, and counters that cannot be incremented.
--
-- KEYS[1..n]  (STRING)  a counter, or a key of any other type
-- ARGV[1..n]  the expected type of each key in the order of KEYS, "integer" for a counter
-- returns     for each key "", or what is wrong: its type, or the value of a counter
local faults = {}
for i, key in ipairs(KEYS) do
    local kind = redis.call("TYPE", key).ok
    local expected = ARGV[i] == "integer" and "string" or ARGV[i]
    faults[i] = (kind == "none" or kind == expected) and "" or "a " .. kind
    if kind == "string" and ARGV[i] == "integer" then
        local value = redis.call("GET", key)
        local digits = string.match(value, "^-?([1-9]%d*)$") or (value == "0" and value)
        -- 9e18 is close enough to a counter's limit, 2^63 - 1.
        if not digits or #digits > 19 or tonumber(digits) > 9e18 then
            faults[i] = "'" .. string.sub(value, 1, 40) .. "'"
        end
    end
end
return faults
