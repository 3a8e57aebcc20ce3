-- read_down: reads the elements of a list that stand before an index, as many as the bounds allow, but at least one.
--
-- KEYS[1]  LIST  the list
-- ARGV[1]  the index
-- ARGV[2]  how many elements
-- ARGV[3]  how many bytes of them; an element that is larger comes alone
-- returns  {the index of the last one that was read, the elements from the one before ARGV[1] on down}
local high, left, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
high = math.min(high, redis.call("LLEN", KEYS[1]))
local elements, size = {}, 4
while high > 0 and left > 0 do
    -- Few at a time: how large they are is known only when they are read.
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
