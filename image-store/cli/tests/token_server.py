"""The token server of a registry, for tests: token_server.py PORT TLS_CERT TLS_KEY CERT KEY LOG [oauth]

Speaks https. Gives tokens (RFC 7519, signed with KEY by openssl, RS256) to user:secret, by GET with Basic, by POST with a password
or with the refresh token "refresh-me". With `oauth` GET is not known, as with servers that speak OAuth2 only.
Each request is a line in LOG. Knows nothing of images.
"""
import base64
import http.server
import json
import ssl
import subprocess
import sys
import time
import urllib.parse

PORT = int(sys.argv[1])
TLS_CERT, TLS_KEY, CERT, KEY, LOG = sys.argv[2:7]
OAUTH_ONLY = "oauth" in sys.argv[7:]


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def certificate():
    pem = open(CERT).read()
    return "".join(line for line in pem.splitlines() if "-----" not in line)


def token(service, scopes):
    access = []
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now = int(time.time())
    claims = {"iss": "test", "sub": "user", "aud": service, "exp": now + 300, "nbf": now - 10, "iat": now, "jti": str(now), "access": access}
    header = {"typ": "JWT", "alg": "RS256", "x5c": [certificate()]}
    text = encode(json.dumps(header).encode()) + "." + encode(json.dumps(claims).encode())
    signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", KEY], input=text.encode(), stdout=subprocess.PIPE, check=True)
    return text + "." + encode(signed.stdout)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def note(self, how):
        with open(LOG, "a") as log:
            log.write(how + "\n")

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if OAUTH_ONLY:
            return self.answer(405, {"details": "method not allowed"})
        basic = self.headers.get("Authorization", "").removeprefix("Basic ")
        if base64.b64decode(basic) != b"user:secret":
            self.note("GET refused")
            return self.answer(401, {"details": "incorrect username or password"})
        self.note("GET " + " ".join(query.get("scope", [])))
        self.answer(200, {"token": token(query["service"][0], query.get("scope", [])), "expires_in": 300})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        form = {key: values[0] for key, values in urllib.parse.parse_qs(self.rfile.read(length).decode()).items()}
        known = {
            "password": form.get("username") == "user" and form.get("password") == "secret",
            "refresh_token": form.get("refresh_token") == "refresh-me",
        }
        grant = form.get("grant_type", "")
        if not known.get(grant):
            self.note("POST refused")
            return self.answer(401, {"error": "invalid_grant"})
        self.note("POST " + grant)
        scopes = form.get("scope", "").split()
        self.answer(200, {"access_token": token(form["service"], scopes), "expires_in": 300})


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(TLS_CERT, TLS_KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
