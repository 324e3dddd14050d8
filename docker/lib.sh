# Functions of the services. A program of the run is led by a named pipe of it.

run=$(cat "$FEDSIM_SHARED/begun" 2>/dev/null || true)

# wait_for FILE...: until one of them is there; ends with 1 when the run has ended without.
wait_for() {
    while :; do
        for file; do
            [ -e "$file" ] && return 0
        done
        if [ -e "$FEDSIM_SHARED/ended" ]; then
            echo "the run has ended before there was anything to do here" >&2
            return 1
        fi
        sleep 0.2 &
        wait $!
    done
}

# begin COMMAND...: starts a program, $program, before it is known what it has to do: it imports meanwhile.
begin() {
    "$@" &
    program=$!
    trap 'drop; exit 143' TERM INT
}

# drop: there is nothing to do for the program that was begun.
drop() {
    kill -TERM "$program" 2>/dev/null
    wait "$program"
}

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

# idle WHY: there is nothing to do here in this run.
idle() {
    echo "$1: nothing to do for this container" >&2
    stay
}

# stay: until asked to stop, since Compose would stop all services as soon as one ends; or until another run begins.
stay() {
    trap 'exit 0' TERM INT
    while :; do
        now=$(cat "$FEDSIM_SHARED/begun" 2>/dev/null || true)
        [ -n "$now" ] && [ "$now" != "$run" ] && break
        sleep 1 &
        wait $!
    done
    exec "$0"
}
