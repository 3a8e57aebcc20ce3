-- scheduler_unlock: releases a scheduler's lock, if the caller holds it.
--
-- KEYS[1]  STRING  Keys.scheduler_lock() or Keys.static_lock()
-- ARGV[1]  the caller, as the lock's value: host:pid
-- returns  1 when it was released, 0 if it is free or held by another scheduler
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call("DEL", KEYS[1])
