-- register_khan: registers a manager with its process and a heartbeat, and removes its former id, in one step.
--
-- KEYS[1]  (SET)   Keys.khans
-- KEYS[2]  (HASH)  Keys.process_starts
-- KEYS[3]  (HASH)  Keys.khan_heartbeats
-- ARGV[1]  its id
-- ARGV[2]  its former id, or ""
-- ARGV[3]  its process (see Keys.process_starts), or ""
-- ARGV[4]  the server's time as Resque writes it
-- returns  the keys of the wrong type, which are left unchanged
-- The first write frees memory: on a full server a script that has written once may write on.
-- uses     usable
if usable(1, "set") then
    redis.call("SREM", KEYS[1], ARGV[1], ARGV[2])
    redis.call("SADD", KEYS[1], ARGV[1])
end
for at = 2, 3 do
    if usable(at, "hash") then
        redis.call("HDEL", KEYS[at], ARGV[1], ARGV[2])
        if ARGV[at + 1] ~= "" then redis.call("HSET", KEYS[at], ARGV[1], ARGV[at + 1]) end
    end
end
return wrong
