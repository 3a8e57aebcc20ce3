-- register_khan: announces a manager, which process it is and that it is alive, and forgets the name it had before.
--
-- KEYS[1]  (SET)   Keys.khans
-- KEYS[2]  (HASH)  Keys.process_starts
-- KEYS[3]  (HASH)  Keys.khan_heartbeats
-- ARGV[1]  its id
-- ARGV[2]  the id it had before, or ""
-- ARGV[3]  which process it is, or ""
-- ARGV[4]  the server's time as Resque shows it
-- returns  those of the keys that are of another type, and are left as they are
-- The first write frees memory: a script that has begun to write may go on where the server is full.
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
