"""An nginx of our own on 127.0.0.1, http and https, with a throw-away certificate authority."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h

CONFIGURATION = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_processes 1;
events {{ worker_connections 8192; }}
http {{
  access_log off; log_not_found off;
  sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_timeout 30; keepalive_requests 10000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  open_file_cache max=20000 inactive=1h; open_file_cache_valid 1h;
  types {{ image/jpeg jpg; image/png png; image/webp webp; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{secure_port} ssl http2 backlog=4096;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:sessions:5m;
    root {root};
    location /forbidden/ {{ return 403; }}
    location /server_error/ {{ return 500; }}
  }}
}}
"""

OPENSSL = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Server:
    """Serves `root` while it is entered; ends with this process however that ends."""

    def __init__(self, folder, root, port):
        self.folder, self.root, self.port = folder, root, port
        self.urls = {"http": f"http://127.0.0.1:{port}", "https": f"https://127.0.0.1:{port + 1}"}
        self.authority, self.bundle = folder / "authority.pem", folder / "bundle.pem"
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        make_certificates(self.folder)
        self.stop_forgotten()
        self.require_free_ports()
        configuration = CONFIGURATION.format(
            # Or its worker could not read the work folder.
            user="user root;" if os.geteuid() == 0 else "",
            folder=self.folder,
            root=self.root,
            port=self.port,
            secure_port=self.port + 1,
        )
        (self.folder / "nginx.conf").write_text(configuration)
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if nginx is None:
            sys.exit("nginx is not installed")
        command = [nginx, "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "error.log"]
        # In a session of its own, so that Ctrl-C reaches this process alone, which then stops it.
        self.process = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
        try:
            self.await_ports()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error):
        self.process.terminate()
        self.process.wait()

    def await_ports(self, patience=10.0):
        deadline = time.monotonic() + patience
        for port in (self.port, self.port + 1):
            while True:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"nginx does not listen on port {port}; see {self.folder}/error.log")
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.02)

    def stop_forgotten(self):
        """Stops the nginx that the pid file names, if it is still one of this folder."""
        with contextlib.suppress(OSError, ValueError):
            process = int((self.folder / "nginx.pid").read_text())
            with open(f"/proc/{process}/cmdline", "rb") as command:
                if str(self.folder / "nginx.conf").encode() in command.read():
                    os.kill(process, signal.SIGTERM)
                    time.sleep(0.5)

    def require_free_ports(self):
        """Or the bench would talk to whatever is there while nginx still tries."""
        for port in (self.port, self.port + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    sys.exit(f"port {port}: {error.strerror}; choose another with --port")

    def cpu_seconds(self):
        """User and system time of master and workers so far."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            processes = [self.process.pid, *children.read().split()]
        ticks = 0
        for process in processes:
            with open(f"/proc/{process}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def make_certificates(folder):
    """A certificate authority, a certificate for 127.0.0.1, and a bundle of the system's authorities and ours; kept while valid."""

    def openssl(*words):
        return subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True)

    def checked(*words):
        result = openssl(*words)
        if result.returncode != 0:
            sys.exit(f"openssl {' '.join(words)}: {result.stderr}")

    if (folder / "bundle.pem").exists() and openssl("x509", "-in", "server.pem", "-checkend", "86400").returncode == 0:
        return
    (folder / "openssl.cnf").write_text(OPENSSL)
    new_key = ["req", "-config", "openssl.cnf", "-newkey", "rsa:2048", "-nodes"]
    authority = ["-x509", "-extensions", "authority", "-days", "90", "-subj", "/CN=lynxdata bench authority"]
    checked(*new_key, *authority, "-keyout", "authority.key", "-out", "authority.pem")
    checked(*new_key, "-subj", "/CN=lynxdata bench server", "-keyout", "server.key", "-out", "server.csr")
    signing = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-days", "90"]
    extensions = ["-extfile", "openssl.cnf", "-extensions", "server"]
    checked("x509", "-req", "-in", "server.csr", *signing, *extensions, "-out", "server.pem")
    system = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    with open(system) as authorities:
        (folder / "bundle.pem").write_text(authorities.read() + (folder / "authority.pem").read_text())
