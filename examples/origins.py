#!/usr/bin/env python3
"""Origins for trying the examples: `origins.py 9001 9002+50` listens on 127.0.0.1:9001 and 9002.

Each answers every request with its port, and with the request's `x-tenant` header where there is one. `+50` makes it
take 50 milliseconds."""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def handler(port, delay):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            time.sleep(delay)
            tenant = self.headers.get("x-tenant")
            body = f"{port} for {tenant}\n" if tenant else f"{port}\n"
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

        def log_message(self, *_):
            pass

    return Handler


threads = []
for argument in sys.argv[1:] or sys.exit(__doc__):
    port, _, milliseconds = argument.partition("+")
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler(int(port), int(milliseconds or 0) / 1000))
    threads.append(threading.Thread(target=server.serve_forever))
    threads[-1].start()
