"""Beam's worker pool on one address of loopback: `python -P flink_pool.py HOST PORT`.

Beam's own command listens on every address, so that two pools could not share a port as the pools
of two pods do. One pool for two TaskManagers will not do: each counts its workers from 1, and the
end of one's worker would kill the other's of the same number.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer


def main() -> None:
    """Serve until killed; workers are processes of their own."""
    host, port = sys.argv[1:]
    server = grpc.server(ThreadPoolExecutor(8))
    pool = BeamFnExternalWorkerPoolServicer(use_process=True)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(f"{host}:{port}")
    server.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
