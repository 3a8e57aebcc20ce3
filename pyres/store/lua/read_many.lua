-- read_many: reads strings, or the first elements of lists, within the limit but at least one.
--
-- KEYS[1..n]  (STRING)  the strings or lists; a key of the wrong type counts as missing
-- ARGV[1]     "GET" or "LINDEX"
-- ARGV[2]     the limit of their bytes; a larger value is returned alone
-- returns     the values of KEYS[1], KEYS[2] and so on; nil for a missing key
local values, bytes = {}, tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
    local words = ARGV[1] == "GET" and {"GET", key} or {"LINDEX", key, 0}
    local value = redis.pcall(unpack(words))
    if type(value) == "table" and not string.find(value.err, "WRONGTYPE", 1, true) then return value end
    local size = type(value) == "string" and #value or 0
    if i > 1 and size > bytes then return values end
    values[i], bytes = size > 0 and value or false, bytes - size
end
return values
