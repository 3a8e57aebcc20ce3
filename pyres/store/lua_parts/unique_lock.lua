-- unique_lock: locks a job of which one is enough.
--
-- acquire(key, lock, ms)  whether the lock is ours now; `key` is Keys.unique(), `ms` how long it is to last
local function acquire(key, lock, ms)
    if redis.call("SET", key, lock, "NX", "PX", ms) then return true end
    -- A lock without an end, or of a clock that was ahead, counts as one that was made now.
    local left, longest, found = redis.pcall("PTTL", key), tonumber(ms), redis.pcall("GET", key)
    if type(left) ~= "number" or type(found) ~= "string" then return false end -- not allowed to look
    local made = tonumber(string.match(found, "[%d.]+$")) or 0
    local ahead = 1000 * (made - (tonumber(string.match(lock, "[%d.]+$")) or made))
    if left < 0 or (ahead > 60000 and left > longest) then
        redis.pcall("PEXPIRE", key, string.format("%.0f", left < 0 and longest or math.max(longest, left - ahead)))
    end
    return false
end
