# Functions of the services. Each runs a program whose standard input is a pipe of the run.

run=$(cat "$FEDSIM_SHARED/begun" 2>/dev/null || true)

# hold PID: waits for a program's end and leaves its exit code in $code; SIGTERM is handed on, and $stopped set.
hold() {
    pid=$1
    stopped=
    trap 'stopped=yes; kill -TERM "$pid" 2>/dev/null' TERM INT
    while :; do
        code=0
        wait "$pid" || code=$?
        kill -0 "$pid" 2>/dev/null || break # else a signal has ended the wait
    done
}

# stay: until asked to stop, since Compose would stop all services as soon as one ends; or until another run begins.
stay() {
    trap 'exit 0' TERM INT
    while [ "$(cat "$FEDSIM_SHARED/begun" 2>/dev/null || true)" = "$run" ]; do
        sleep 1 &
        wait $!
    done
    exec "$0"
}
