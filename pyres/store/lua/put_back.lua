-- put_back: puts a payload that was fetched but not started back at the head of its queue, once.
--
-- KEYS[1]  (STRING)  the worker's in-flight record: Keys.worker()
-- KEYS[2]  LIST      Keys.queue()
-- KEYS[3]  SET       Keys.queues
-- ARGV[1]  the payload
-- ARGV[2]  the queue's name
-- ARGV[3]  the in-flight record that the worker must have, or "" if none was written for this payload
-- returns  1 when it was put back, 0 if the worker has another record; a key of the wrong type does not count
-- The first write frees memory: on a full server a script that has written once may write on.
local record = redis.pcall("GET", KEYS[1])
if ARGV[3] ~= "" and type(record) ~= "table" and record ~= ARGV[3] then return 0 end
redis.call("DEL", KEYS[1])
redis.call("LPUSH", KEYS[2], ARGV[1])
redis.call("SADD", KEYS[3], ARGV[2])
return 1
