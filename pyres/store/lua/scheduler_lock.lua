-- scheduler_lock: takes the master's lock if it is free, or renews it if it is ours.
--
-- KEYS[1]  STRING  Keys.scheduler_lock()
-- ARGV[1]  the value that says it is ours: host:pid
-- ARGV[2]  its time to live, milliseconds
-- returns  {1, ARGV[1], ARGV[2]} when it is ours; else {0, whose it is, milliseconds it still lives, -1 for ever}
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then return {0, holder, redis.call("PTTL", KEYS[1])} end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return {1, ARGV[1], tonumber(ARGV[2])}
