# SPDX-License-Identifier: Apache-2.0
"""Programs that count which packets to a mobile node are lost while something is done to its home agent."""

# Sends numbered packets to the home address, every 20 ms; prints those that were echoed. Ends when told by SIGTERM,
# after all answers of what it has sent have had time to come: it waits for the last one.
COUNT = """
import json, select, signal, socket, sys
sending = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sending.connect((sys.argv[1], 7))
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
sent, echoed = 0, set()
while not ended or (len(echoed) < sent and select.select([sending], [], [], 10)[0]):
    if not ended:
        sending.send(str(sent).encode())
        sent += 1
    while select.select([sending], [], [], 0 if ended else 0.02)[0]:
        echoed.add(int(sending.recv(100)))
        if len(echoed) == 1:
            print(json.dumps({"event": "counting"}), flush=True)
        if ended:
            break
print(json.dumps({"event": "counted", "sent": sent, "lost": sorted(set(range(sent)) - echoed)}), flush=True)
"""

ECHO = """
import socket, sys
echoing = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
echoing.bind((sys.argv[1], 7))
print("ready", flush=True)
while True:
    data, sender = echoing.recvfrom(100)
    echoing.sendto(data, sender)
"""
