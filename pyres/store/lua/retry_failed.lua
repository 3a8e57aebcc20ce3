-- retry_failed: takes one failure record out of its list and puts its payload on a queue, both or neither.
--
-- KEYS[1]  LIST  the failure list: Keys.failed or Keys.failure_list()
-- KEYS[2]  LIST  Keys.queue()
-- KEYS[3]  SET   Keys.queues
-- ARGV[1]  the record, byte for byte
-- ARGV[2]  the payload
-- ARGV[3]  the queue's name
-- returns  1 when it was retried, 0 when the record is gone already
if redis.call("LREM", KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call("SADD", KEYS[3], ARGV[3])
redis.call("RPUSH", KEYS[2], ARGV[2])
return 1
