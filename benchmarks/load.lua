-- The load that wrk sends: one of the phases assign, acquire and mix.
-- Its arguments: the phase, how many executors there are, and a prefix that makes this run's order ids new.

local phase, executors, prefix, host
local orders = 0

function init(args)
    phase, executors, prefix = args[1], tonumber(args[2]), args[3]
    host = " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\n\r\n"
    math.randomseed(1)
end

-- Each phase has executors of its own, so that one does not change what another finds.
local function executor()
    return phase .. "-" .. math.random(executors)
end

local function assign()
    orders = orders + 1
    return "PUT /orders/assign?order_id=" .. prefix .. orders .. "&executor_id=" .. executor()
        .. "&zone_id=zone-" .. orders % 100 .. host
end

local function acquire()
    return "GET /order/acquire?executor_id=" .. executor() .. host
end

local function cancel()
    return "POST /order/cancel?order_id=" .. prefix .. math.random(math.max(orders, 1)) .. host
end

function request()
    if phase == "assign" then return assign() end
    if phase == "acquire" then return acquire() end
    -- The mix: 8,334 acquires, 100 assigns and 5 cancels a second are 500,000 executors who poll once a minute.
    local draw = math.random(8334 + 100 + 5)
    if draw <= 8334 then return acquire() end
    if draw <= 8334 + 100 then return assign() end
    return cancel()
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "p999_ms": %.3f, "errors": %d}',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
