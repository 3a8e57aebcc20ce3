-- unique_lock: acquires the lock of a unique job.
--
-- acquire(key, lock, ms)  whether the lock was acquired; `key` is Keys.unique(), `ms` its TTL
local function acquire(key, lock, ms)
    if redis.call("SET", key, lock, "NX", "PX", ms) then return true end
    -- A lock without a TTL, or made by a clock that was ahead, gets the TTL of a lock made now.
    local left, longest, other = redis.pcall("PTTL", key), tonumber(ms), redis.pcall("GET", key)
    if type(left) ~= "number" or type(other) ~= "string" then return false end -- no right to read it
    local made = tonumber(string.match(other, "[%d.]+$")) or 0
    local ahead = 1000 * (made - (tonumber(string.match(lock, "[%d.]+$")) or made))
    if left < 0 or (ahead > 60000 and left > longest) then
        redis.pcall("PEXPIRE", key, string.format("%.0f", left < 0 and longest or math.max(longest, left - ahead)))
    end
    return false
end
