-- put_off_unique: lays a payload by, unless a job like it was enqueued and its claim still stands.
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
if not redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2]) then
    -- A claim without an end, or of a clock that was ahead, counts as one that was made now.
    local left, ms, claim = redis.pcall("PTTL", KEYS[1]), tonumber(ARGV[2]), redis.pcall("GET", KEYS[1])
    if type(left) ~= "number" or type(claim) ~= "string" then return 0 end -- not allowed to look
    local made = tonumber(string.match(claim, "[%d.]+$")) or 0
    local ahead = 1000 * (made - (tonumber(string.match(ARGV[1], "[%d.]+$")) or made))
    if left < 0 or (ahead > 60000 and left > ms) then
        redis.pcall("PEXPIRE", KEYS[1], string.format("%.0f", left < 0 and ms or math.max(ms, left - ahead)))
    end
    return 0
end
redis.call("DEL", KEYS[2])
redis.call("HSET", KEYS[2], "lock", ARGV[1], unpack(ARGV, 6))
redis.call("PEXPIRE", KEYS[2], ARGV[2])
redis.call("RPUSH", KEYS[3], ARGV[5])
redis.call("SADD", KEYS[4], ARGV[4])
redis.call("ZADD", KEYS[5], ARGV[3], ARGV[3])
return 1
