-- delete_row: removes the element at an index of a list, or that before it to which it has moved.
--
-- KEYS[1]  LIST  any list
-- ARGV[1]  the index from the head
-- ARGV[2]  the element, byte for byte
-- ARGV[3]  a text that stands in no list, to mark what goes
-- returns  1 when it was removed, 0 when it is not there
local index = tonumber(ARGV[1])
-- What was popped since the caller looked has moved it towards the head.
local lowest = math.max(index - 64, 0)
while index >= lowest and redis.call("LINDEX", KEYS[1], index) ~= ARGV[2] do index = index - 1 end
if index < lowest then return 0 end
local from_head = index * 2 < redis.call("LLEN", KEYS[1])
-- A server that is full refuses the mark; of equal elements another one goes then.
local marked = redis.pcall("LSET", KEYS[1], index, ARGV[3])
redis.call("LREM", KEYS[1], from_head and 1 or -1, marked.ok and ARGV[3] or ARGV[2])
return 1
