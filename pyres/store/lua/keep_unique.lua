-- keep_unique: locks a unique job that waits for an automatic retry, or keeps its lock.
--
-- KEYS[1]  STRING  Keys.unique()
-- KEYS[2]  (HASH)  Keys.unique_job(), as check_unique has it
-- ARGV[1]  the lock
-- ARGV[2]  its TTL, milliseconds
-- ARGV[3]  "1" to set this TTL on an existing lock too
-- ARGV[4..]  the fields of KEYS[2] except `lock`, each followed by its value
-- returns  1
-- uses     unique_job
local lock = redis.call("GET", KEYS[1])
if not lock then
    redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
    lock = ARGV[1]
else
    if ARGV[3] ~= "1" then return 1 end
    redis.call("PEXPIRE", KEYS[1], ARGV[2])
    -- A lock made after this job was enqueued belongs to a later job.
    local made, own = string.match(lock, ":(.*)$"), string.match(ARGV[1], ":(.*)$")
    if (tonumber(made) or 0) > (tonumber(own) or 0) and own ~= "0.0" then return 1 end
end
write_job(KEYS[2], lock, ARGV[2], 4)
return 1
