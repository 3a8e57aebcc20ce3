-- read_down: reads elements of a list from an index towards the head, within the limits but at least one.
--
-- KEYS[1]  LIST  the list
-- ARGV[1]  the index before which reading begins
-- ARGV[2]  the limit of elements
-- ARGV[3]  the limit of their bytes; a larger element is returned alone
-- returns  {the index of the last one read, the elements, beginning with the one before ARGV[1]}
local high, left, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
high = math.min(high, redis.call("LLEN", KEYS[1]))
local elements, size = {}, 4
while high > 0 and left > 0 do
    -- Few at a time: their size is known only when they are read.
    size = math.min(2 * size, 64, left)
    local low = math.max(0, high - size)
    local chunk = redis.call("LRANGE", KEYS[1], low, high - 1)
    for at = #chunk, 1, -1 do
        if #elements > 0 and #chunk[at] > bytes then return {low + at, elements} end
        table.insert(elements, chunk[at])
        left, bytes = left - 1, bytes - #chunk[at]
    end
    high = low
end
return {high, elements}
