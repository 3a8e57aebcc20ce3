-- delay_unique: lays a payload by, unless a job like it was enqueued and its claim still stands.
--
-- KEYS[1]  STRING  Keys.unique()
-- KEYS[2]  (HASH)  Keys.unique_job(), as check_unique has it
-- KEYS[3]  LIST    Keys.delayed()
-- KEYS[4]  SET     Keys.timestamps() of the payload
-- KEYS[5]  ZSET    Keys.delayed_schedule
-- ARGV[1]  the claim
-- ARGV[2]  the claim's time to live, milliseconds
-- ARGV[3]  the timestamp, epoch seconds
-- ARGV[4]  Keys.delayed_name()
-- ARGV[5]  the payload
-- ARGV[6..]  the fields of KEYS[2] but for `lock`, each followed by its value
-- returns  1 when it was laid by, 0 when it was dropped
-- uses     unique_lock, unique_job
if not acquire(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
write_job(KEYS[2], ARGV[1], ARGV[2], 6)
redis.call("RPUSH", KEYS[3], ARGV[5])
redis.call("SADD", KEYS[4], ARGV[4])
redis.call("ZADD", KEYS[5], ARGV[3], ARGV[3])
return 1
