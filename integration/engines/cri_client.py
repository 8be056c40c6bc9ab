"""A client of the CRI, as the kubelet is one: calls by gRPC, streams by websocket. Messages are Kubernetes' own (integration/lab/parts.sh);
requests are given as dictionaries of them. It must not know containerd."""
import json
import struct
import sys
import time

from steps import SLOW, contains, until

sys.path.append("/opt/cri")
IMAGES = "ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo"
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


class Client:
    def __init__(self, socket):
        # the tree has these by integration/lab/parts.sh only: importing them late lets the other engines run without
        import api_pb2
        import google.protobuf.json_format as json_format
        import grpc
        self.api, self.json, self.error = api_pb2, json_format, grpc.RpcError
        self.channel = grpc.insecure_channel(f"unix://{socket}", [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)])

    def call(self, method, request=None, refused=None, **fields):
        """Calls a method and returns its response; with `refused` demands an error that has this text."""
        service = "ImageService" if method in IMAGES else "RuntimeService"
        function = self.channel.unary_unary(f"/runtime.v1.{service}/{method}", request_serializer=lambda m: m.SerializeToString(),
                                            response_deserializer=getattr(self.api, method + "Response").FromString)
        try:
            response = function(self.json.ParseDict(request or fields, getattr(self.api, method + "Request")()), timeout=60 * SLOW)
        except self.error as error:
            if refused is None:
                raise AssertionError(f"{method}: {error.code().name}: {error.details()}") from None
            contains(error.details(), refused)
            return None
        assert refused is None, f"{method} was not refused"
        return response

    def events(self):
        """The stream of container events, which runs until it is cancelled."""
        return self.channel.unary_stream("/runtime.v1.RuntimeService/GetContainerEvents", request_serializer=lambda m: m.SerializeToString(),
                                         response_deserializer=self.api.ContainerEventResponse.FromString)(self.api.GetEventsRequest())

    def enum(self, name, value):
        return getattr(self.api, name).Name(value)


class Stream:
    """One websocket of the streaming server: what came is kept by channel."""

    def __init__(self, url):
        import websocket
        self.module, self.seen = websocket, {}
        self.socket = websocket.create_connection(url.replace("http://", "ws://"), subprotocols=["v4.channel.k8s.io"], timeout=60 * SLOW,
                                                  http_no_proxy=["*"])

    def send(self, channel, data):
        self.socket.send_binary(bytes([channel]) + data)

    def resize(self, columns, rows):
        self.send(RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    def read(self):
        """Takes one message; False at the stream's end."""
        try:
            data = self.socket.recv()
        except self.module.WebSocketConnectionClosedException:
            return False
        if not data:
            return False
        self.seen[data[0]] = self.seen.get(data[0], b"") + data[1:]
        return True

    def expect(self, channel, text):
        """Reads until a channel has a text."""
        end = time.monotonic() + 60 * SLOW
        while text not in self.seen.get(channel, b""):
            assert time.monotonic() < end and self.read(), f"no {text!r} on channel {channel}: {self.seen}"

    def ask(self, data, answer):
        """Sends a line until it is answered: an attached client can write before it can read."""
        self.socket.settimeout(3 * SLOW)

        def answered():
            self.send(STDIN, data)
            try:
                while answer not in self.seen.get(STDOUT, b""):
                    assert self.read(), f"the stream ended without {answer!r}: {self.seen}"
            except self.module.WebSocketTimeoutException:
                return False
            return True
        until(f"{answer!r} on the stream", answered)
        self.socket.settimeout(60 * SLOW)

    def finish(self):
        """Reads to the end; the exit status that the error channel tells."""
        while self.read():
            pass
        self.socket.close()
        status = json.loads(self.seen.get(ERROR, b"{}") or b"{}")
        if status.get("status") == "Success":
            return 0
        causes = status.get("details", {}).get("causes", [])
        return int(next((c["message"] for c in causes if c["reason"] == "ExitCode"), -1))


class Forward(Stream):
    """A forwarded port: channel 0 is its data, channel 1 its errors; each begins with the port's number."""

    def __init__(self, url, port):
        super().__init__(url)
        for channel in 0, 1:
            until(f"channel {channel} tells its port", lambda channel=channel: len(self.seen.get(channel, b"")) >= 2 or not self.read())
            assert struct.unpack("<H", self.seen[channel][:2])[0] == port, self.seen
            self.seen[channel] = self.seen[channel][2:]
