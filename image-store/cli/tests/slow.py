"""A slow line: slow.py PORT TARGET LIMIT passes on connections from PORT to TARGET, both on the loopback, and brings answers back at
some four megabytes a second each, until LIMIT bytes have come over all of them; from then on at a few kilobytes. Knows nothing of
HTTP.
"""
import socket
import sys
import threading
import time

LIMIT = int(sys.argv[3])
passed = 0
counting = threading.Lock()


def pump(source, target, answers):
    global passed
    try:
        while data := source.recv(16384):
            for at in range(0, len(data), 512) if answers and passed >= LIMIT else [None]:
                time.sleep(0 if not answers else 0.004 if at is None else 0.1)
                target.sendall(data if at is None else data[at : at + 512])
            with counting:
                passed += len(data) if answers else 0
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    threading.Thread(target=pump, args=(near, far, False), daemon=True).start()
    threading.Thread(target=pump, args=(far, near, True), daemon=True).start()
