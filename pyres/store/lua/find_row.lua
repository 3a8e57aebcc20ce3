-- find_row: finds an element among some of a list by its bytes.
--
-- KEYS[1]  LIST  any list
-- ARGV[1]  the index of the first element looked at, from the head
-- ARGV[2]  the index of the last one
-- ARGV[3]  the element, byte for byte
-- ARGV[4]  which of several equal ones: "first" or "last"
-- returns  its index or -1, how many elements were looked at, and how many bytes those have
local found, bytes = -1, 0
local elements = redis.call("LRANGE", KEYS[1], ARGV[1], ARGV[2])
for offset, element in ipairs(elements) do
    bytes = bytes + #element
    if element == ARGV[3] and (found < 0 or ARGV[4] == "last") then
        found = ARGV[1] + offset - 1
    end
end
return {found, #elements, bytes}
