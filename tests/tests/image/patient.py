"""Works until it is told to end; then it takes its time to clean up, and says how it ended."""

import os
import pathlib
import signal
import sys
import time


def end(number, frame):
    raise SystemExit(7)


signal.signal(signal.SIGTERM, end)
try:
    # In here: who reads it may ask for the end at once.
    print("at work", flush=True)
    if "--at-once" in sys.argv:
        end(None, None)
    time.sleep(60)
finally:
    time.sleep(1)
    pathlib.Path(os.environ["ROBOT_ARTIFACTS"], "cleaned-up").write_text("yes")
    print("cleaned up", flush=True)
