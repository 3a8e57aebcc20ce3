-- push_unique: appends a payload to a queue, unless a job of the same class and arguments has the unique lock.
--
-- KEYS[1]  STRING  Keys.unique()
-- KEYS[2]  (HASH)  Keys.unique_job(), as check_unique has it
-- KEYS[3]  SET     Keys.queues
-- KEYS[4]  LIST    Keys.queue()
-- ARGV[1]  the lock
-- ARGV[2]  the lock's TTL, milliseconds
-- ARGV[3]  the queue's name
-- ARGV[4]  the payload
-- ARGV[5..]  the fields of KEYS[2] except `lock`, each followed by its value
-- returns  1 when it was appended, 0 when it is a duplicate
-- uses     unique_lock, unique_job
if not acquire(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
write_job(KEYS[2], ARGV[1], ARGV[2], 5)
redis.call("SADD", KEYS[3], ARGV[3])
redis.call("RPUSH", KEYS[4], ARGV[4])
return 1
