-- unique_job: records which job has a unique lock.
--
-- write_job(key, lock, ms, first)  `key` is Keys.unique_job(), as check_unique has it, `ms` its TTL; its fields except
--                                  `lock`, each followed by its value, are ARGV[first] and what follows
local function write_job(key, lock, ms, first)
    redis.call("DEL", key)
    redis.call("HSET", key, "lock", lock, unpack(ARGV, first))
    redis.call("PEXPIRE", key, ms)
end
