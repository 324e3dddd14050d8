# Functions of the services. Each runs a program whose standard input is a pipe of the run.

# hold PID: waits for a program's end, hands SIGTERM on to it, and leaves its exit code in $code.
hold() {
    pid=$1
    trap 'stopped=yes; kill -TERM "$pid" 2>/dev/null' TERM INT
    while :; do
        code=0
        wait "$pid" || code=$?
        kill -0 "$pid" 2>/dev/null || break # else a signal has ended the wait
    done
    [ -z "${stopped:-}" ] || exit "$code"
}

# stay: until asked to stop. Compose would stop all services as soon as one ends.
stay() {
    trap 'exit 0' TERM INT
    sleep infinity &
    wait
}
