-- push_unique: appends a payload to a queue, unless a job like it was enqueued and its claim still stands.
--
-- KEYS[1]  STRING  Keys.unique()
-- KEYS[2]  SET     Keys.queues
-- KEYS[3]  LIST    Keys.queue()
-- ARGV[1]  the claim
-- ARGV[2]  the claim's time to live, milliseconds
-- ARGV[3]  the queue's name
-- ARGV[4]  the payload
-- returns  1 when it was appended, 0 when it was dropped
if not redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2]) then return 0 end
redis.call("SADD", KEYS[2], ARGV[3])
redis.call("RPUSH", KEYS[3], ARGV[4])
return 1
