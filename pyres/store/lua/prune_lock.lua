-- prune_lock: acquires or renews Resque's prune lock, also from a holder that is known to be dead.
--
-- KEYS[1]  STRING  Keys.prune_lock
-- ARGV[1]  the id of the worker that acquires it
-- ARGV[2]  its TTL, seconds
-- ARGV[3]  the id of a holder known to be dead, or ""
-- returns  1 when the lock was acquired, else 0
-- The first write frees memory: on a full server a script that has written once may write on.
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[3] and holder ~= ARGV[1] then return 0 end
redis.call("DEL", KEYS[1])
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[2])
return 1
