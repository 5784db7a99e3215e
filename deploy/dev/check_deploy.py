"""Holds deploy/nomad/gatewayzen.nomad.hcl against deploy/compose.yaml, and both against the Dockerfile and the settings; and the
Packer file against the scripts that it runs.

Neither Nomad nor Packer nor their own parsers are used: this shows that the files are HCL and say the same as what is tested
for real, not that these programs run them.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

import hcl2
import yaml

ROOT = Path(sys.argv[1])
SERVICES = ["dispatcher", "instance-worker", "ssh-worker", "wallet-worker"]
# What runs as a task of a group of Nomad's, as compose.yaml names it.
TASKS = ["migrate", *SERVICES]
problems = []


def check(holds, problem):
    if not holds:
        problems.append(problem)


def compose_text(value):
    """A text as Compose reads it where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value).replace("$$", "$")


def compose_service(compose, name):
    service = compose["services"][name]
    secrets = {}
    for secret in service.get("secrets", []):
        one = {"source": secret, "target": secret} if isinstance(secret, str) else secret
        secrets[one["target"]] = one["source"]
    return {
        "image": compose_text(service["image"]),
        "user": compose_text(service["user"]),
        "environment": {key: compose_text(value) for key, value in service["environment"].items()},
        "secrets": secrets,
        "read-only": service["read_only"],
        "stop after": service["stop_grace_period"],
        "command": service.get("command", []),
        "volumes": sorted(compose_text(volume).split(":")[1] for volume in service.get("volumes", [])),
    }


class Nomad:
    """The job, with its variables at their defaults."""

    def __init__(self, path):
        tree = hcl2.loads(path.read_text())
        self.variables = {}
        for block in tree["variable"]:
            for name, body in block.items():
                self.variables[self.name(name)] = body.get("default")
        (job,) = tree["job"]
        self.job = job[next(iter(job))]
        self.groups = {self.name(key): body for group in self.job["group"] for key, body in group.items()}
        self.tasks = {}
        for group, body in self.groups.items():
            for task in body["task"]:
                for key, value in task.items():
                    self.tasks[self.name(key)] = (group, value)

    @staticmethod
    def name(text):
        return text.strip('"')

    def text(self, value):
        """A text as Nomad reads it with the variables at their defaults."""
        value = json.loads(value) if isinstance(value, str) and value.startswith('"') else value
        if not isinstance(value, str):
            return value
        return re.sub(r"\$\{var\.(\w+)\}", lambda found: self.text(self.variables[found.group(1)]), value)

    def items(self, block):
        return {self.name(key): self.text(value) for key, value in block.items() if not key.startswith("__")}

    def task(self, name):
        _, task = self.tasks[name]
        (config,), (environment,) = task["config"], task["env"]
        (secrets,) = [block['"template"'] for block in task["dynamic"] if '"template"' in block]
        (content,) = secrets["content"]
        user = self.text(task["user"])
        check(f"{content['uid']}:{content['gid']}" == user, f"nomad: {name}: the secrets are not its user's, {user}")
        check(self.text(content["perms"]) == "0400", f"nomad: {name}: the secrets can be read by others")
        mounts = {self.text(mount["target"]): self.text(mount["source"]) for mount in config["mount"]}
        check(mounts.get("/run/secrets") == "secrets", f"nomad: {name}: /run/secrets is not mounted")
        check("/gatewayzen.toml" in mounts, f"nomad: {name}: /gatewayzen.toml is not mounted")
        return {
            "image": self.text(config["image"]),
            "user": user,
            "environment": self.items(environment),
            "secrets": {key: value.replace("_", "-") for key, value in self.items(secrets["for_each"]).items()},
            "read-only": config["readonly_rootfs"],
            "stop after": self.text(task.get("kill_timeout", '"45s"')),
            "command": [self.text(config["command"])] if "command" in config else [],
            "volumes": sorted(self.text(mount["destination"]) for mount in task.get("volume_mount", [])),
        }


def same(name, ours, theirs):
    for what, value in ours.items():
        if value != theirs[what]:
            check(False, f"{name}: {what} differs:\n    compose: {value}\n    nomad:   {theirs[what]}")


def check_environment(name, environment, defaults, secrets):
    for key, value in environment.items():
        if not key.startswith("GATEWAYZEN_") or key == "GATEWAYZEN_CONFIG":
            continue
        place = defaults
        for part in key.removeprefix("GATEWAYZEN_").lower().split("__"):
            place = place.get(part) if isinstance(place, dict) else None
        check(place is not None, f"{name}: {key} is no setting (crates/bootstrap/defaults.toml)")
    for key, value in environment.items():
        if value.startswith("/run/secrets/"):
            file = value.removeprefix("/run/secrets/")
            check(file in secrets, f"{name}: {key} names {value}, which is no secret of this service")


def seconds(text):
    return int(text.removesuffix("s"))


compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
nomad = Nomad(ROOT / "deploy/nomad/gatewayzen.nomad.hcl")
defaults = tomllib.loads((ROOT / "crates/bootstrap/defaults.toml").read_text())
dockerfile = (ROOT / "deploy/Dockerfile").read_text()
targets = set(re.findall(r"^FROM runtime AS (\S+)$", dockerfile, re.M))

check(sorted(nomad.groups) == sorted(SERVICES), f"nomad: the groups are {sorted(nomad.groups)}, not the four services")
check(sorted(nomad.tasks) == sorted(TASKS), f"nomad: the tasks are {sorted(nomad.tasks)}")
for name in TASKS:
    ours, theirs = compose_service(compose, name), nomad.task(name)
    same(name, ours, theirs)
    check_environment(name, ours["environment"], defaults, ours["secrets"])
    target = compose["services"][name]["build"]["target"]
    check(target in targets, f"{name}: the Dockerfile has no stage {target}")
    check(ours["image"] == f"gatewayzen/{target}:dev", f"{name}: image {ours['image']} is built from stage {target}")
    check(seconds(ours["stop after"]) > seconds(defaults["worker"]["drain"]), f"{name}: it is killed before its drain is over")
    for secret in ours["secrets"].values():
        check(secret in compose["secrets"], f"{name}: there is no secret {secret}")

port = re.search(r"^EXPOSE (\d+)$", dockerfile, re.M).group(1)
listen = re.search(r"^ENV GATEWAYZEN_HEALTH__LISTEN=\S+:(\d+)$", dockerfile, re.M).group(1)
check(port == listen, f"Dockerfile: it exposes port {port}, health listens on {listen}")
for name in SERVICES:
    group = nomad.groups[name]
    (network,) = group["network"]
    to = str(network["port"][0]['"health"']["to"])
    check(to == port, f"nomad: {name}: its health port is {to}, the image's is {port}")
    check(nomad.text(group["service"][0]["check"][0]["path"]) == "/readyz", f"nomad: {name}: its check is not /readyz")
    check(isinstance(group["count"], int), f"nomad: {name} has no count")
    check("replicas" in compose["services"][name]["deploy"], f"compose: {name} has no number of replicas")
    stage = re.search(rf"^FROM runtime AS {name}$(.*?)(?=^FROM|\Z)", dockerfile, re.M | re.S).group(1)
    check(f'HEALTHCHECK' in stage and f'["{name}", "--ready"]' in stage, f"Dockerfile: {name} has no health check")

# Each queue is scaled by the worker that takes it, and the override for one queue loses none.
states = (ROOT / "crates/core/src/state.rs").read_text()
queues = set(re.findall(r'"((?:initialize|retrieve|start|set|stop|update|terminate)[A-Z]\w+)"', states))
scaled = set()
for name in SERVICES[1:]:
    query = nomad.text(nomad.groups[name]["scaling"][0]["policy"][0]["check"][0]['"backlog"']["query"])
    scaled |= set(re.search(r'queue=~"([^"]+)"', query).group(1).split("|"))
check(queues and scaled == queues, f"nomad: the scaling policies look at {sorted(scaled)}, the queues are {sorted(queues)}")
override = yaml.safe_load((ROOT / "deploy/compose.update-worker.yaml").read_text())["services"]
split = [json.loads(override[name]["environment"]["GATEWAYZEN_WORKER__QUEUES"]) for name in ("ssh-worker", "update-worker")]
query = nomad.text(nomad.groups["ssh-worker"]["scaling"][0]["policy"][0]["check"][0]['"backlog"']["query"])
theirs = re.search(r'queue=~"([^"]+)"', query).group(1).split("|")
check(sorted(sum(split, [])) == sorted(theirs), f"compose.update-worker.yaml: it takes {split}, the ssh-worker's are {theirs}")

# Every secret of the Compose file is one that make-secrets makes.
made = (ROOT / "deploy/make-secrets").read_text()
passwords = re.search(r"^for name in (.*); do$", made, re.M).group(1).split()
files = {f"{name}-password" for name in passwords} | set(re.findall(r"^make ([a-z.-]+)", made, re.M))
for secret in compose["secrets"]:
    check(secret in files, f"make-secrets does not make {secret}")

# The profile `observe`: what names something, names what is there.
observe = ROOT / "deploy/observe"
collector = yaml.safe_load((observe / "otel-collector.yaml").read_text())
for signal, pipeline in collector["service"]["pipelines"].items():
    for kind, parts in pipeline.items():
        unknown = set(parts) - set(collector[kind])
        check(not unknown, f"otel-collector.yaml: the pipeline {signal} names {kind} that are not configured: {sorted(unknown)}")
receives = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
example = (ROOT / "deploy/example.env").read_text()
sends = re.search(r"^#OTLP_ENDPOINT=http://([a-z-]+):(\d+)$", example, re.M)
check(sends.groups() == ("otel-collector", receives), f"example.env sends to {sends.group(0)}, the collector listens on {receives}")
taken = set(re.findall(r"\$\{env:(\w+)\}", json.dumps(collector)))
given = set(compose["services"]["otel-collector"]["environment"])
check(taken == given, f"otel-collector.yaml: it reads {sorted(taken)}, compose.yaml gives it {sorted(given)}")
scrape = yaml.safe_load((observe / "prometheus.yaml").read_text())["scrape_configs"][0]["dns_sd_configs"][0]
check(str(scrape["port"]) == port, f"prometheus.yaml: it asks port {scrape['port']}, the images serve on {port}")
check(set(scrape["names"]) == set(SERVICES) | (set(override) - set(SERVICES)), f"prometheus.yaml: it looks for {scrape['names']}")
(datasource,) = yaml.safe_load((observe / "grafana/datasources/prometheus.yaml").read_text())["datasources"]
check(datasource["url"].split("/")[2].split(":")[0] in compose["services"], f"grafana: no service is at {datasource['url']}")
dashboards = [json.loads(path.read_text()) for path in (observe / "dashboards").glob("*.json")]
asked = {panel["datasource"]["uid"] for dashboard in dashboards for panel in dashboard["panels"] if "datasource" in panel}
check(asked == {datasource["uid"]}, f"grafana: the dashboards ask {sorted(asked)}, what is provisioned is {datasource['uid']}")
(provider,) = yaml.safe_load((observe / "grafana/dashboards/gatewayzen.yaml").read_text())["providers"]
(mounted,) = {volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]}
provisioning = compose["services"]["grafana"]["environment"]["GF_PATHS_PROVISIONING"]
for path in (provider["options"]["path"], provisioning):
    check((observe / path.removeprefix(mounted).lstrip("/")).is_dir(), f"grafana: there is no {path} in its container")

# The Packer file gives `install` what it wants, runs all that is there, and declares what it uses.
ami = ROOT / "deploy/ami"
packer_text = (ami / "gatewayd.pkr.hcl").read_text()
packer = hcl2.loads(packer_text)
declared = {Nomad.name(name) for block in packer["variable"] for name in block}
used = set(re.findall(r"\bvar\.(\w+)", packer_text))
check(declared == used, f"packer: it declares {sorted(declared)} and uses {sorted(used)}")
install = (ami / "install").read_text()
wanted = set(re.search(r"^for name in (.*); do$", install, re.M).group(1).split())
given = set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", packer_text))
check(wanted <= given, f"packer: install is not given {sorted(wanted - given)}")
check(all(f"${{{name}:-}}" in install for name in given - wanted), f"packer: install knows not all of {sorted(given)}")
for script in ("install", "own-database", "check", "clean"):
    check(f'"{script}"' in packer_text, f"packer: it does not use {script}")
(user,) = set(re.findall(r'^  ssh_username *= "(\w+)"$', packer_text, re.M))
check(user == defaults["ssh"]["user"], f"packer: the login user is {user}, ssh.user is {defaults['ssh']['user']}")

for problem in problems:
    print(f"error: {problem}", file=sys.stderr)
if problems:
    sys.exit(1)
print(f"check-deploy: compose.yaml and the Nomad job agree on {', '.join(TASKS)}; the job and the Packer file were checked, not run")
