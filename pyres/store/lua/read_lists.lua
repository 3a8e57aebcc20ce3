-- read_lists: reads elements of lists, one list after the other, within the limits but at least one.
--
-- KEYS[1..n]  (LIST)  the lists; a key of the wrong type counts as an empty list
-- ARGV[1]     index of the first element to read of KEYS[1]
-- ARGV[2]     the limit of elements of all lists together
-- ARGV[3]     the limit of their bytes; a larger element is returned alone
-- returns     {how many of the lists were read to their end, the elements of KEYS[1], of KEYS[2] and so on}
local first, left, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local reply, none = {0}, true
for i, key in ipairs(KEYS) do
    -- Few elements at a time: their size is known only when they are read.
    local elements, size, chunk = {}, 4, {}
    reply[i + 1] = elements
    repeat
        size = math.min(2 * size, 64)
        chunk = redis.pcall("LRANGE", key, first, first + size - 1)
        if chunk.err and not string.find(chunk.err, "WRONGTYPE", 1, true) then return chunk end
        for _, element in ipairs(chunk) do
            if not none and (left == 0 or #element > bytes) then return reply end
            table.insert(elements, element)
            left, bytes, none = left - 1, bytes - #element, false
        end
        first = first + size
    until #chunk < size
    reply[1], first = i, 0
end
return reply
