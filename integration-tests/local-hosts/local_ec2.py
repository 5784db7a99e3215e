#!/usr/bin/env python3
"""EC2 on loopback: moto answers the API, a wrapper adds what moto lacks, and each running instance gets a local host.

Everything this process makes lies in --state DIR. `DIR/ec2.json` appears when it is ready and says how to reach it.
SIGTERM ends it and all its hosts; with --end-with-stdin so does the end of its standard input, which is how a test that
dies takes it along.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

REGION = "us-east-1"
# The golden images: gatewayd's release, and the id under which it is registered.
AMIS = {"3.29.0": "ami-00000000000032900", "3.29.1": "ami-00000000000032901"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder for everything; made if missing")
    parser.add_argument("--port", type=int, default=0, help="port of the EC2 API on 127.0.0.1; 0: any free one")
    parser.add_argument("--network", type=int, default=64, help="N of 127.N.0.0/16, the hosts' addresses (2 to 254)")
    parser.add_argument("--public-key", type=Path, help="the fleet's public SSH key; default: makes DIR/fleet_key")
    parser.add_argument("--access-key", default="AKIALOCALDEVELOPMENT")
    parser.add_argument("--secret-key", default="local-development-only")
    parser.add_argument("--ssh-port", type=int, default=2222, help="sshd's port on each host")
    parser.add_argument("--gatewayd-port", type=int, default=5000, help="gatewayd's HTTPS port on each host")
    parser.add_argument("--mode", choices=("light", "full"), default="light", help="light: GATEWAYD_SET=server-only")
    parser.add_argument("--pending", type=float, default=0, help="seconds an instance shows as pending")
    parser.add_argument("--ending", type=float, default=0, help="seconds it shows as shutting-down or stopping")
    parser.add_argument("--boot-delay", type=float, default=0, help="seconds from running to an open SSH port")
    parser.add_argument("--notfound-lag", type=float, default=0, help="seconds a new instance is not found by any call")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input ends")
    return parser.parse_args()


def fleet_key(state, given):
    if given:
        return given.read_text()
    private = state / "fleet_key"
    if not private.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fleet", "-f", private], check=True)
    return (state / "fleet_key.pub").read_text()


def furnish(endpoint, args, public_key):
    """What a fleet finds in its account before it starts: network, security group, key pair."""
    import boto3

    ec2 = boto3.client(
        "ec2",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=args.access_key,
        aws_secret_access_key=args.secret_key,
    )
    vpc = ec2.create_vpc(CidrBlock=f"127.{args.network}.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"127.{args.network}.1.0/24")["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    group = ec2.create_security_group(GroupName="gatewayd", Description="SSH and HTTPS", VpcId=vpc)["GroupId"]
    ec2.import_key_pair(KeyName="fleet", PublicKeyMaterial=public_key.encode())
    return {"vpc": vpc, "subnet": subnet, "security_group": group, "key_name": "fleet"}


def main():
    args = arguments()
    state = args.state = args.state.resolve()
    # pm2 makes a Unix socket in each host's folder; its path may have at most 107 bytes.
    if len(f"{state}/hosts/i-0123456789abcdef0/.pm2/pub.sock") > 107:
        sys.exit(
            f"error: --state {state} is too long a path for the Unix sockets of the hosts (60 characters or so fit)"
        )
    state.mkdir(parents=True, exist_ok=True)
    lock = open(state / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"error: another local_ec2.py runs in {state}")
    ready = state / "ec2.json"
    ready.unlink(missing_ok=True)

    from hosts import USER, Postgres, clean

    try:
        postgres = Postgres()
        if "gatewayd_template" not in postgres.run("SELECT datname FROM pg_database"):
            sys.exit("error: the private Postgres has no gatewayd_template; run deploy/dev/services start")
    except (OSError, KeyError, RuntimeError) as error:
        sys.exit(f"error: the private Postgres is not there ({error}); run deploy/dev/services start")
    clean(state / "hosts", postgres)  # what a crashed run left

    # moto reads these when it is imported.
    (state / "amis.json").write_text(
        json.dumps(
            [{"ami_id": ami, "name": f"gatewayd-{release}", "architecture": "x86_64"} for release, ami in AMIS.items()]
        )
    )
    os.environ |= {"MOTO_AMIS_PATH": str(state / "amis.json"), "MOTO_ENABLE_AMI_VALIDATION": "true"}
    os.environ |= {"MOTO_ENABLE_KEYPAIR_VALIDATION": "true", "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true"}
    from wrapper import Wrapper, serve

    public_key = fleet_key(state, args.public_key)
    settings = {
        name: getattr(args, name)
        for name in ("mode", "pending", "ending", "boot_delay", "notfound_lag", "ssh_port", "gatewayd_port")
    }
    tags = {ami: f"v{release}" for release, ami in AMIS.items()}
    wrapper = Wrapper(REGION, args.access_key, args.secret_key, settings, state / "hosts", postgres, tags)
    server = serve(wrapper, args.port)
    endpoint = f"http://127.0.0.1:{server.port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: done.set())
    account = furnish(endpoint, args, public_key)
    facts = {
        "endpoint": endpoint,
        "control": f"{endpoint}/_gatewayzen",
        "region": REGION,
        "access_key": args.access_key,
        "secret_key": args.secret_key,
        "ami": AMIS["3.29.0"],
        "amis": AMIS,
        "instance_type": "t3.small",
        **account,
        "ssh_user": USER,
        "ssh_port": args.ssh_port,
        "ssh_key": str(args.public_key or state / "fleet_key.pub").removesuffix(".pub"),
        "gatewayd_port": args.gatewayd_port,
        "network": f"127.{args.network}.1.0/24",
        "hosts": str(state / "hosts"),
        "pid": os.getpid(),
    }
    (state / "ec2.json.new").write_text(json.dumps(facts, indent=2) + "\n")
    (state / "ec2.json.new").rename(ready)
    print(f"ready: EC2 at {endpoint}, hosts on 127.{args.network}.1.0/24 ({args.mode}), {ready}", flush=True)

    if args.end_with_stdin:
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), done.set()), daemon=True).start()
    done.wait()
    ready.unlink(missing_ok=True)
    wrapper.close()
    clean(state / "hosts", postgres)


if __name__ == "__main__":
    main()
