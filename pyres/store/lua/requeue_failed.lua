-- requeue_failed: marks the failure record at an index as retried and pushes its payload, if it is still that record.
--
-- KEYS[1]  LIST  the failure list: Keys.failed or Keys.failure_list()
-- KEYS[2]  LIST  Keys.queue()
-- KEYS[3]  SET   Keys.queues
-- ARGV[1]  the index from 0
-- ARGV[2]  the record that must be there, byte for byte
-- ARGV[3]  the record with its retried_at
-- ARGV[4]  the payload
-- ARGV[5]  the queue's name
-- returns  1 when it was requeued, 0 if another record is there now
if redis.call("LINDEX", KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call("LSET", KEYS[1], ARGV[1], ARGV[3])
redis.call("SADD", KEYS[3], ARGV[5])
redis.call("RPUSH", KEYS[2], ARGV[4])
return 1
