-- The rules of window.py, with its names and constants, for a window in Redis: one call records how requests
-- ended, and requests a permit. Redis runs it atomically, so without a lock, and by one clock, the server's.
-- tests/property/test_rule_in_lua.py compares the two.
local me, quotas, seen, elapsed, born, reports, request, unsent, closing = unpack(cmsgpack.unpack(ARGV[1]))
local stored = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local clock = time[1] + time[2] / 1000000
local NEVER, ALWAYS = -math.huge, math.huge
local state = stored and cmsgpack.unpack(stored)
    or { clock, 0, seen > 0 and seen + elapsed - clock or 0, false,
         { {}, {}, {}, NEVER, { 1, ALWAYS, NEVER, ALWAYS, false }, {}, {}, {} } }
local times, pages, allocated, closed, forecast, in_flight, claims, sharers = unpack(state[5])
local trust, remaining, stated_at, resets_at, slides = unpack(forecast)

-- A process that called before knows how far the clock can have advanced since. It never runs backwards.
local now = clock + state[3]
if seen > 0 and now > seen + elapsed + SLACK then now = seen + elapsed end
if now < state[2] then now = state[2] end

-- Grants -----------------------------------------------------------------------------------------------

local windows, limit, span, max_kept, reserve, least_margin

local function part_of(requests, share)
    return math.max(1, math.floor(requests * share + 1e-9))
end

local function set_windows()
    local share, margin = 1, 0
    windows, reserve, max_kept, least_margin = {}, 0, 0, ALWAYS
    for _, sharer in ipairs(sharers) do
        for _, quota in ipairs(sharer[3]) do
            windows[#windows + 1] = { part_of(quota[1], quota[3]), quota[2] + quota[4] }
            share, margin = math.min(share, quota[3]), math.max(margin, quota[4])
            least_margin, reserve = math.min(least_margin, quota[4]), math.max(reserve, quota[5])
        end
    end
    if allocated[1] then
        windows[#windows + 1] = { part_of(allocated[1], share), allocated[2] + margin }
    end
    table.sort(windows, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
    limit, span = unpack(windows[1])
    max_kept = windows[#windows][1]
end

local function keep(granted, granted_at)
    granted[#granted + 1] = granted_at
    while #granted > max_kept do table.remove(granted, 1) end
end

local function add(granted_at, is_page)
    keep(times, granted_at)
    if is_page and reserve > 0 then keep(pages, granted_at) end
end

local function postpone(granted, granted_at)
    local counted = now - least_margin
    if counted <= granted_at then return end
    for place = #granted, 1, -1 do
        if granted[place] == granted_at then
            table.remove(granted, place)
            while granted[place] and granted[place] <= counted do place = place + 1 end
            table.insert(granted, place, counted)
            return
        end
    end
end

local function due_of(granted, max_count, length, ahead)
    local rounds = math.floor(ahead / max_count)
    local index = #granted - max_count + ahead % max_count + 1
    return (index >= 1 and granted[index] + length or now) + rounds * length
end

local function due(ahead, is_page)
    local due_at = now
    for _, window in ipairs(windows) do
        due_at = math.max(due_at, due_of(times, window[1], window[2], ahead))
        if is_page and reserve > 0 then
            due_at = math.max(due_at, due_of(pages, math.max(1, window[1] - reserve), window[2], ahead))
        end
    end
    return due_at
end

local function in_window()
    local first = #times + 1
    while first > 1 and times[first - 1] + span > now do first = first - 1 end
    return first, #times - first + 1
end

local function half_expired_at()
    local first, count = in_window()
    if not slides or count == 0 then return now end
    return times[first + math.floor((count - 1) / 2)] + span
end

-- Forecast ---------------------------------------------------------------------------------------------

local function expected_remaining()
    return remaining - AGEING * limit * (now - stated_at) / span
end

local function judge_reset(stated)
    local expired = 0
    for _, granted_at in ipairs(times) do
        if stated_at < granted_at + span and granted_at + span <= now then expired = expired + 1 end
    end
    slides = stated - remaining - expired <= (slides and MUCH * limit or 0)
end

local function close(opens_at, chance)
    closed = math.max(closed, opens_at + chance * math.min(JITTER, (opens_at - now) / 10))
end

local function learn(granted_at, stated, resets_after, requests, per, chance)
    local newer = granted_at >= stated_at
    if newer and requests > 0 and (requests ~= allocated[1] or per ~= allocated[2]) then
        allocated = { requests, per }
        set_windows()
    end
    if stated < 0 then
        trust = trust * 4
        return
    end
    trust = ALWAYS
    if not newer and stated >= remaining then return end
    if granted_at >= resets_at then judge_reset(stated) end
    remaining, stated_at = stated, now
    resets_at = resets_after < 0 and ALWAYS or now + resets_after
    local _, count = in_window()
    if resets_after >= 0 and stated <= SPARE * limit and stated < limit - count then
        close(math.max(resets_at, half_expired_at()), chance)
    end
end

local function refuse(granted_at, opens_at, chance)
    trust = 1
    if not (expected_remaining() > LOW * limit) then -- NaN if nothing was ever stated
        slides = slides or granted_at >= resets_at
        resets_at = math.max(opens_at, half_expired_at())
        opens_at = resets_at
    end
    close(opens_at, chance)
end

-- Window -----------------------------------------------------------------------------------------------

local function drop(list, unwanted)
    for place = #list, 1, -1 do
        if unwanted(list[place]) then table.remove(list, place) end
    end
end

local function permit(member, priority, since, key)
    drop(claims, function(claim) return claim[1] == member or claim[4] + LOST < now end)
    local ahead = 0
    for _, claim in ipairs(claims) do
        if claim[2] < priority or claim[2] == priority and claim[3] < since then ahead = ahead + 1 end
    end
    claims[#claims + 1] = { member, priority, since, now }
    while in_flight[1] and in_flight[1][2] + PATIENCE <= now do table.remove(in_flight, 1) end
    local opens_at = math.max(closed, due(ahead, priority > 0))
    local max_in_flight = math.max(1, math.min(trust, math.floor(expected_remaining() / 2)))
    if opens_at <= now and #in_flight + ahead >= max_in_flight then
        return { 0, (in_flight[1] and in_flight[1][2] or now) + PATIENCE, IN_FLIGHT, ahead, 0 }
    end
    local reason = closed >= opens_at and CLOSED or WINDOW
    if opens_at > now then return { 0, opens_at, reason, ahead, 0 } end
    table.remove(claims)
    add(now, priority > 0)
    in_flight[#in_flight + 1] = { key, now }
    return { key, now, reason, ahead, now }
end

drop(sharers, function(sharer) return sharer[1] == me or sharer[2] + REMEMBERED <= now end)
sharers[#sharers + 1] = { me, now, quotas }
set_windows()

if seen > 0 and (not stored or state[2] < seen or state[1] ~= born and not state[4]) then
    -- An earlier window was lost, and its grants are unknown: assume a full window.
    times, pages, state[4] = {}, {}, true
    for _ = 1, max_kept do add(now, true) end
end
for _, grant in ipairs(unsent) do add(math.min(now, grant[1]), grant[2] > 0) end
if unsent[1] then
    table.sort(times)
    table.sort(pages)
end
closed = math.max(closed, closing)

for _, report in ipairs(reports) do
    local kind, key, granted_at, stated, resets_after, requests, per, pause, chance = unpack(report)
    if kind == WITHDRAWN then
        drop(claims, function(claim) return claim[1] == key end)
    else
        drop(in_flight, function(one) return one[1] == key end)
        if kind ~= REFUSED then
            postpone(times, granted_at)
            postpone(pages, granted_at)
        end
        if kind == ANSWERED then learn(granted_at, stated, resets_after, requests, per, chance) end
        if kind == REFUSED then refuse(granted_at, now + pause, chance) end
    end
end
local verdict = request[1] and cmsgpack.pack(permit(unpack(request))) or ''

forecast = { trust, remaining, stated_at, resets_at, slides }
state = cmsgpack.pack({ state[1], now, now - clock, state[4],
    { times, pages, allocated, closed, forecast, in_flight, claims, sharers } })
redis.call('SET', KEYS[1], state, 'EX', TTL)
return { state, verdict }
