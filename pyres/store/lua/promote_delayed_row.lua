-- promote_delayed_row: moves the payload at an index of what waits at a timestamp, or that before it to which it has moved, to its queue.
--
-- KEYS[1]  LIST  Keys.delayed()
-- KEYS[2]  ZSET  Keys.delayed_schedule
-- KEYS[3]  SET   Keys.timestamps() of the payload
-- KEYS[4]  SET   Keys.queues
-- KEYS[5]  LIST  Keys.queue()
-- ARGV[1]  the index from the head
-- ARGV[2]  the payload
-- ARGV[3]  a text that stands in no list, to mark what goes
-- ARGV[4]  the timestamp, epoch seconds
-- ARGV[5]  Keys.delayed_name()
-- ARGV[6]  the payload as it goes onto the queue
-- ARGV[7]  the queue's name
-- returns  1 when it was moved, 0 when it is not there
local index = tonumber(ARGV[1])
local lowest = math.max(index - 64, 0)
while index >= lowest and redis.call("LINDEX", KEYS[1], index) ~= ARGV[2] do index = index - 1 end
if index < lowest then return 0 end
local from_head = index * 2 < redis.call("LLEN", KEYS[1])
-- What a full server refuses comes first.
redis.call("RPUSH", KEYS[5], ARGV[6])
redis.call("SADD", KEYS[4], ARGV[7])
redis.call("LSET", KEYS[1], index, ARGV[3])
redis.call("LREM", KEYS[1], from_head and 1 or -1, ARGV[3])
local left = redis.call("LLEN", KEYS[1])
-- Where that cannot be seen soon, an equal payload may be left: its way back here stays.
local copy = left > 50000 or redis.pcall("LPOS", KEYS[1], ARGV[2])
if not copy then redis.call("SREM", KEYS[3], ARGV[5]) end
if left == 0 then redis.call("ZREM", KEYS[2], ARGV[4]) end
return 1
