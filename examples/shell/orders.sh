#!/usr/bin/env bash
# A walk through the orders service with curl: an order's life, and an assign whose answer is lost.
#
# ORDERS is the command `orders`, if it is not in PATH: ORDERS='.venv/bin/python -m orders' ./orders.sh
# For a script of your own, copy start_orders, stop_orders and the traps. They need bash 4.4 or newer.
set -euo pipefail

# Starts a server with the test controls on a free port, its orders in memory. Sets orders_url.
start_orders() {
    local command line='' code=0
    read -r -a command <<< "${ORDERS:-orders}"
    IFS= read -r -t 30 line < <(
        exec "${command[@]}" serve --controls --port 0 --database sqlite:///:memory: --no-access-log
    ) || code=$?
    orders_pid=$!
    if [[ $line != 'orders listening on '* ]]; then
        # From read, more than 128 means that the time is over.
        if ((code > 128)); then
            echo 'The orders service was not ready after 30 seconds.' >&2
        else
            echo "The orders service did not start: ${command[*]} serve" >&2
        fi
        return 1
    fi
    orders_url=${line#orders listening on }
}

# Stops the server and waits for its end. Does nothing if none was started.
stop_orders() {
    if [[ -n ${orders_pid:-} ]]; then
        kill "$orders_pid" 2> /dev/null || true
        wait "$orders_pid" 2> /dev/null || true
        orders_pid=''
    fi
}

# call METHOD PATH [BODY]: sends a request, prints it and the answer, and sets answer. Fails as curl does.
call() {
    local code=0
    echo "  $*"
    answer=$(
        # A proxy that the environment names cannot reach this machine's own address.
        curl --silent --noproxy '*' --max-time 10 --request "$1" ${3:+--data "$3"} \
            --write-out ' (%{http_code})' "$orders_url$2"
    ) || code=$?
    if ((code)); then
        echo "    no answer: curl ended with exit code $code"
        return "$code"
    fi
    echo "    $answer"
}

# expect TEXT: ends the script unless the last answer has the text.
expect() {
    if [[ $answer != *"$1"* ]]; then
        echo "The answer should have been: $1" >&2
        exit 1
    fi
}

trap stop_orders EXIT
# Without it, a script that is interrupted would not wait for the server's end.
trap 'exit 1' HUP INT TERM
start_orders
echo "The orders service is at $orders_url."

echo 'The life of an order:'
call PUT '/orders/assign?order_id=order-1&executor_id=executor-1&zone_id=zone-1'
expect 'Successfully created'
call GET '/order/acquire?executor_id=executor-1'
expect 'Successfully acquired'
call POST '/order/cancel?order_id=order-1'
expect 'Successfully canceled'

echo 'An assign whose answer is lost after the order was stored:'
call POST /_controls/faults '{"operation": "assign_order", "kind": "drop", "when": "after"}'
expect '(201)'
lost=0
call PUT '/orders/assign?order_id=order-2&executor_id=executor-1&zone_id=zone-1' || lost=$?
if ((lost != 52)); then
    echo 'curl should have ended with exit code 52: nothing came back.' >&2
    exit 1
fi

echo 'So the same request is sent again, and finds the order registered, once:'
call PUT '/orders/assign?order_id=order-2&executor_id=executor-1&zone_id=zone-1'
expect 'already exists'
call GET '/_controls/orders?order_id=order-2'
expect '"count": 1,'

stop_orders
echo 'The orders service is stopped.'
