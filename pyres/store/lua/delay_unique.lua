-- delay_unique: delays a payload, unless a job of the same class and arguments has the unique lock.
--
-- KEYS[1]  STRING  Keys.unique()
-- KEYS[2]  (HASH)  Keys.unique_job(), as check_unique has it
-- KEYS[3]  LIST    Keys.delayed()
-- KEYS[4]  SET     Keys.timestamps() of the payload
-- KEYS[5]  ZSET    Keys.delayed_schedule
-- ARGV[1]  the lock
-- ARGV[2]  the lock's TTL, milliseconds
-- ARGV[3]  the timestamp, epoch seconds
-- ARGV[4]  Keys.delayed_name()
-- ARGV[5]  the payload
-- ARGV[6..]  the fields of KEYS[2] except `lock`, each followed by its value
-- returns  1 when it was delayed, 0 when it is a duplicate
-- uses     unique_lock, unique_job
if not acquire(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
write_job(KEYS[2], ARGV[1], ARGV[2], 6)
redis.call("RPUSH", KEYS[3], ARGV[5])
redis.call("SADD", KEYS[4], ARGV[4])
redis.call("ZADD", KEYS[5], ARGV[3], ARGV[3])
return 1
