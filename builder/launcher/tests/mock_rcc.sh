#!/bin/sh
# Stands in for rcc in faults and races that the real one shows only by chance. Like it, dies at SIGTERM without telling
# its child, swallows SIGINT while a task runs, and ends with 10 when the task fails. Waits without children of its own.
trap : INT
await() { until [ -e "$1" ]; do :; done; }
scenario=$1
case $scenario in
    exit) exit "$2" ;;
    die) kill -s "$2" $$ ;;
    idle) echo ready; exec sleep 60 ;;
    task) sh -c "$2" || exit 10 ;;
    late) echo ready; await "$2"; sh -c "$3" || exit 10 ;;
    # Ends before its task, as soon as a file is there.
    abandon) sh -c "$3" & await "$2"; exit 5 ;;
esac
