"""What moto lacks of EC2, added around its WSGI application.

Client tokens, a time of pending and of ending, instances that are not found at first, credentials that are checked,
errors on demand; and the hosts, which follow the state of their instances. One lock over everything: moto is not made for
threads, and while it is held the time between two calls can be played with safely.
"""

import io
import json
import re
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2 import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from hosts import Host

# EC2's codes for states. Those that pass by themselves, with the one they become.
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
WANTED = {"running": "up", "stopping": "down", "stopped": "down", "shutting-down": "removed", "terminated": "removed"}
ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors>'
    "<RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>"
)
STATUS = {"RequestLimitExceeded": 503, "InsufficientInstanceCapacity": 500, "InternalError": 500, "AuthFailure": 401}


class Refused(Exception):
    def __init__(self, code, message, status=None):
        super().__init__(code)
        self.code, self.message, self.status = code, message, status or STATUS.get(code, 400)


class Wrapper:
    def __init__(self, region, access_key, secret_key, settings, folder, postgres, tags):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.backend = ec2_backends[DEFAULT_ACCOUNT_ID][region]
        self.credentials = Credentials(access_key, secret_key)
        self.settings, self.folder, self.postgres, self.tags = settings, folder, postgres, tags
        self.lock = threading.Lock()
        self.tokens = {}  # client token -> (the request, moto's answer, ids of the instances)
        self.errors = []  # errors to come, oldest first
        self.visible = {}  # instance id -> when it can be found
        self.due = {}  # instance id -> (when, the state that it then gets)
        self.hosts = {}
        self.closed = threading.Event()
        self.woken = threading.Event()
        threading.Thread(target=self._tick, daemon=True).start()

    # --- WSGI --------------------------------------------------------------------------------------------------------

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ["PATH_INFO"].startswith("/_gatewayzen/"):
            return self._control(environ, body, start_response)
        params = dict(urllib.parse.parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        drop = False
        try:
            service = self._authenticate(environ, body)
            with self.lock:
                if service != "ec2":
                    return [self._pass_on(environ, body, start_response)]
                wrong = self._injected(params)
                if wrong and not wrong.get("after_effect"):
                    raise Refused(wrong["code"], wrong["message"], wrong.get("status"))
                status, headers, answer = self._ec2(environ, params)
                if wrong:
                    drop = wrong["code"] == "drop"
                    if not drop:
                        raise Refused(wrong["code"], wrong["message"], wrong.get("status"))
        except Refused as refused:
            if refused.code == "drop":
                drop = True
            status, headers = f"{refused.status} Error", [("Content-Type", "text/xml;charset=UTF-8")]
            answer = ERROR.format(escape(refused.code), escape(refused.message)).encode()
        if drop:  # the connection ends without an answer, as when the network or EC2's front dies
            start_response("200 OK", [])
            environ["werkzeug.socket"].shutdown(2)
            return [b""]
        start_response(
            status, [h for h in headers if h[0].lower() != "content-length"] + [("Content-Length", str(len(answer)))]
        )
        return [answer]

    def _pass_on(self, environ, body, start_response):
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        return b"".join(self.moto(environ, start_response))

    def _call_moto(self, environ, params):
        kept = {}

        def start_response(status, headers, _exc_info=None):
            kept.update(status=status, headers=headers)

        answer = self._pass_on(environ, urllib.parse.urlencode(params).encode(), start_response)
        return kept["status"], kept["headers"], answer

    def _authenticate(self, environ, body):
        """Checks the request's signature with the one known secret; answers which service is called."""
        header = environ.get("HTTP_AUTHORIZATION", "")
        parts = re.match(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)",
            header,
        )
        if not parts:
            raise Refused("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        key, region, service, signed, signature = parts.groups()
        headers = {}
        for name in signed.split(";"):
            variable = name.upper().replace("-", "_")
            headers[name] = environ.get(
                variable if name in ("content-type", "content-length") else f"HTTP_{variable}", ""
            )
        url = f"http://{environ['HTTP_HOST']}{environ['PATH_INFO']}"
        if environ.get("QUERY_STRING"):
            url += "?" + environ["QUERY_STRING"]
        request = AWSRequest(environ["REQUEST_METHOD"], url, data=body, headers=headers)
        request.context["timestamp"] = environ.get("HTTP_X_AMZ_DATE", "")
        auth = SigV4Auth(self.credentials, service, region)
        expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        if key != self.credentials.access_key or signature != expected:
            code = "AuthFailure" if service == "ec2" else "InvalidClientTokenId"
            raise Refused(code, "AWS was not able to validate the provided access credentials", 401)
        return service

    # --- EC2 ---------------------------------------------------------------------------------------------------------

    def _ec2(self, environ, params):
        action = params.get("Action", "")
        if action == "RunInstances":
            result = self._run_instances(environ, params)
        else:
            with self._hidden():
                result = self._call_moto(environ, self._filter_by_token(params))
        if action in ("TerminateInstances", "StopInstances"):
            self._delay_end(result[2].decode())
        self.woken.set()
        return result

    def _run_instances(self, environ, params):
        token = params.get("ClientToken")
        request = {name: value for name, value in params.items() if name not in ("ClientToken", "Version")}
        if token in self.tokens:
            known, (status, headers, answer), ids = self.tokens[token]
            if known != request:
                raise Refused(
                    "IdempotentParameterMismatch",
                    f"Arguments on this idempotent request are inconsistent with arguments used in previous request(s) for token {token}.",
                )
            return status, headers, self._with_states(answer, ids)
        before = set(self._instances())
        status, headers, answer = self._call_moto(environ, params)
        if not status.startswith("200") or params.get("DryRun") == "true":
            return status, headers, answer
        now = time.monotonic()
        ids = [i for i in re.findall(r"<instanceId>([^<]+)</instanceId>", answer.decode()) if i not in before]
        for instance_id in ids:
            self.visible[instance_id] = now + self.settings["notfound_lag"]
            self._set_state(instance_id, "pending")
            self.due[instance_id] = (now + self.settings["pending"], "running")
        answer = self._with_states(answer, ids)
        if token:
            self.tokens[token] = (request, (status, headers, answer), ids)
        return status, headers, answer

    def _with_states(self, answer, ids):
        """The kept answer of a launch, with what its instances have become since."""
        states = iter(self._instances()[i].state for i in ids)

        def state(_match):
            name = next(states)
            return f"<instanceState><code>{CODES[name]}</code><name>{name}</name></instanceState>"

        return re.sub(r"<instanceState>.*?</instanceState>", state, answer.decode(), flags=re.DOTALL).encode()

    def _filter_by_token(self, params):
        """moto cannot filter by client token: turned into a filter by the ids of its instances."""
        params = dict(params)
        for name in [n for n, v in params.items() if re.fullmatch(r"Filter\.\d+\.Name", n) and v == "client-token"]:
            prefix = name.removesuffix("Name") + "Value."
            tokens = [params.pop(n) for n in list(params) if n.startswith(prefix)]
            ids = [i for token in tokens for i in self.tokens.get(token, (0, 0, []))[2]]
            params[name] = "instance-id"
            params |= {f"{prefix}{number}": i for number, i in enumerate(ids or ["i-none"], 1)}
        return params

    def _hidden(self):
        """For the time of one call, without the instances that EC2 would not show yet."""
        wrapper, now = self, time.monotonic()

        class Hidden:
            def __enter__(self):
                reservations = wrapper.backend.reservations
                self.all = dict(reservations)
                for key, reservation in self.all.items():
                    if any(wrapper.visible.get(i.id, 0) > now for i in reservation.instances):
                        del reservations[key]

            def __exit__(self, *_):
                wrapper.backend.reservations.update(self.all)

        return Hidden()

    def _instances(self):
        return {i.id: i for r in self.backend.reservations.values() for i in r.instances}

    def _set_state(self, instance_id, name):
        state = self._instances()[instance_id]._state
        state.name, state.code = name, CODES[name]

    def _delay_end(self, answer):
        for instance_id in re.findall(r"<instanceId>([^<]+)</instanceId>", answer):
            final = self._instances()[instance_id].state
            passing = {"terminated": "shutting-down", "stopped": "stopping"}.get(final)
            at = time.monotonic() + self.settings["ending"]
            if self.settings["ending"] and passing and self.due.get(instance_id, (0, ""))[1] != final:
                self._set_state(instance_id, passing)
                self.due[instance_id] = (at, final)
            else:
                self.due.pop(instance_id, None)

    # --- time and hosts ----------------------------------------------------------------------------------------------

    def _tick(self):
        while not self.closed.is_set():
            self.woken.wait(0.05 if self.due else 1)
            self.woken.clear()
            with self.lock:
                now = time.monotonic()
                for instance_id, (at, state) in list(self.due.items()):
                    if at <= now:
                        del self.due[instance_id]
                        self._set_state(instance_id, state)
                for instance in self._instances().values():
                    self._follow(instance)

    def _follow(self, instance):
        want = WANTED.get(instance.state)
        host = self.hosts.get(instance.id)
        if host is None:
            if want != "up" or self.closed.is_set():
                return
            host = self.hosts[instance.id] = Host(
                self.folder / instance.id,
                instance.private_ip,
                dict(self.settings),
                self.postgres,
                instance.user_data.decode() if instance.user_data else "",
                self.backend.key_pairs[instance.key_name].public_key if instance.key_name else "",
                self.tags[instance.image_id],
            )
        if want:
            host.set_want(want)

    def close(self):
        """Ends all hosts and starts no other."""
        self.closed.set()
        with self.lock:
            hosts = list(self.hosts.values())
        for host in hosts:
            host.set_want("removed")
        deadline = time.monotonic() + 20
        while any(host.now != "removed" for host in hosts) and time.monotonic() < deadline:
            time.sleep(0.05)

    # --- control: /_gatewayzen/… -------------------------------------------------------------------------------------

    def _injected(self, params):
        for error in self.errors:
            if error["action"] in (params.get("Action"), "*"):
                error["times"] -= 1
                if error["times"] <= 0:
                    self.errors.remove(error)
                return error
        return None

    def _control(self, environ, body, start_response):
        path, method = environ["PATH_INFO"].removeprefix("/_gatewayzen/"), environ["REQUEST_METHOD"]
        status = "200 OK"
        try:
            with self.lock:
                answer = self._do_control(path, method, json.loads(body) if body else {})
        except (KeyError, ValueError, TypeError) as error:
            status, answer = "400 Bad Request", {"error": f"{type(error).__name__}: {error}"}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode() + b"\n"]

    def _do_control(self, path, method, given):
        if path == "errors":
            if method == "POST":
                unknown = set(given) - {"action", "code", "message", "status", "times", "after_effect"}
                if unknown:
                    raise ValueError(f"unknown: {sorted(unknown)}")
                self.errors.append(
                    {"times": 1, "message": "made by the local EC2"}
                    | given
                    | {"action": given["action"], "code": given["code"]}
                )
            elif method == "DELETE":
                self.errors.clear()
            return self.errors
        if path == "settings":
            unknown = set(given) - {"mode", "pending", "ending", "boot_delay", "notfound_lag"}
            if unknown:
                raise ValueError(f"unknown: {sorted(unknown)}")
            self.settings.update(given)
            return self.settings
        if path == "hosts":
            return [host.show() for host in self.hosts.values()]
        raise KeyError(path)


class _QuietHandler(MotoRequestHandler):
    def log_request(self, code="-", size="-"):
        pass


def serve(wrapper, port):
    return make_server("127.0.0.1", port, wrapper, threaded=True, request_handler=_QuietHandler)
