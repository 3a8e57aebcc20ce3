-- find_element: searches a list for an element, from an index towards the head, in a limited number of bytes.
--
-- KEYS[1]  LIST  the list
-- ARGV[1]  the element
-- ARGV[2]  the index before which the search begins
-- ARGV[3]  the limit of bytes that are searched
-- returns  {its index or -1, the index before which to continue, 0 at the head}
local high, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
high = math.min(high, redis.call("LLEN", KEYS[1]))
local size = 4
while high > 0 and bytes > 0 do
    size = math.min(2 * size, 64)
    local low = math.max(0, high - size)
    local chunk = redis.call("LRANGE", KEYS[1], low, high - 1)
    for at = #chunk, 1, -1 do
        if chunk[at] == ARGV[1] then return {low + at - 1, low + at - 1} end
        -- 100 for the cost of an element besides its bytes.
        bytes = bytes - #chunk[at] - 100
    end
    high = low
end
return {-1, high}
