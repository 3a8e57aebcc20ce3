-- scheduler_unlock: releases the master's lock, if it is ours.
--
-- KEYS[1]  STRING  Keys.scheduler_lock()
-- ARGV[1]  the value that says it is ours: host:pid
-- returns  1 when it was released, 0 when it is somebody else's or nobody's
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call("DEL", KEYS[1])
