-- prune_lock: takes Resque's prune lock, also from a holder that is known to be gone.
--
-- KEYS[1]  STRING  Keys.prune_lock
-- ARGV[1]  the id of who wants it
-- ARGV[2]  its time to live, seconds
-- ARGV[3]  the id of a holder known to be gone, or ""
-- returns  1 when the lock is ours, else 0
-- The first write frees memory: a script that has begun to write may go on where the server is full.
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[3] and holder ~= ARGV[1] then return 0 end
redis.call("DEL", KEYS[1])
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[2])
return 1
