-- find_element: looks for an element of a list before an index, from there on down, in as many bytes as it is told.
--
-- KEYS[1]  LIST  the list
-- ARGV[1]  the element
-- ARGV[2]  the index
-- ARGV[3]  how many bytes of elements are looked at
-- returns  {the index where it stands or -1, the index before which to go on; 0 when there is no more}
local high, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
high = math.min(high, redis.call("LLEN", KEYS[1]))
local size = 4
while high > 0 and bytes > 0 do
    size = math.min(2 * size, 64)
    local low = math.max(0, high - size)
    local chunk = redis.call("LRANGE", KEYS[1], low, high - 1)
    for at = #chunk, 1, -1 do
        if chunk[at] == ARGV[1] then return {low + at - 1, low + at - 1} end
        -- What each costs besides its bytes.
        bytes = bytes - #chunk[at] - 100
    end
    high = low
end
return {-1, high}
