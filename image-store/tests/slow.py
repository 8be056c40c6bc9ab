"""A slow line: slow.py PORT TARGET passes on connections from PORT to TARGET, both on the loopback, and brings answers back at some
four megabytes a second each. Knows nothing of HTTP.
"""
import socket
import sys
import threading
import time


def pump(source, target, pause):
    try:
        while data := source.recv(16384):
            time.sleep(pause)
            target.sendall(data)
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
    threading.Thread(target=pump, args=(near, far, 0), daemon=True).start()
    threading.Thread(target=pump, args=(far, near, 0.004), daemon=True).start()
