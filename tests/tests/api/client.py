"""Calls maglevd with gRPC's own library, using only the descriptors from reflection.

client.py TARGET ROLE [SERVER-NAME CA [CERTIFICATE KEY]]
"""

import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PATIENCE = 60
SERVICE = "maglev.v1.Maglev"


def connect(target, name=None, ca=None, certificate=None, key=None):
    if ca is None:
        return grpc.insecure_channel(target)
    read = lambda path: open(path, "rb").read() if path else None
    credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(certificate))
    return grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", name)])


def build_reflection(pool):
    """Builds the reflection messages used here, because reflection cannot describe itself in advance."""
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package="r", syntax="proto3")
    kinds = {"string": 9, "bytes": 12, "message": 11}

    def message(name, *fields):
        built = file.message_type.add(name=name)
        for field, number, kind, label, of in fields:
            built.field.add(name=field, number=number, type=kinds[kind], label=label, type_name=of or None)

    message("Request", ("path", 3, "string", 1, ""), ("symbol", 4, "string", 1, ""), ("list", 7, "string", 1, ""))
    message("Service", ("name", 1, "string", 1, ""))
    message("Services", ("service", 1, "message", 3, ".r.Service"))
    message("Files", ("file", 1, "bytes", 3, ""))
    message("Response", ("files", 4, "message", 1, ".r.Files"), ("services", 6, "message", 1, ".r.Services"))
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return [factory.GetPrototype(pool.FindMessageTypeByName(f"r.{name}")) for name in ("Request", "Response")]


def reflect(channel, version, pool):
    """Adds the descriptors of the server's services to the pool and returns the services' names."""
    request, response = build_reflection(pool)
    stream = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )

    def ask(**question):
        return next(stream(iter([request(**question)]), timeout=PATIENCE))

    def add(files):
        for file in map(descriptor_pb2.FileDescriptorProto.FromString, files):
            if file.name not in added:
                added.add(file.name)
                for needed in file.dependency:
                    add(ask(path=needed).files.file)
                pool.Add(file)

    added = set()
    for symbol in (SERVICE, "grpc.health.v1.Health"):
        add(ask(symbol=symbol).files.file)
    # The server ignores the value, but an empty field would not be sent.
    return [service.name for service in ask(list="*").services.service]


def caller(channel, pool):
    factory = message_factory.MessageFactory(pool)

    def call(path, **fields):
        service, name = path.rsplit("/", 1)
        method = pool.FindServiceByName(service).methods_by_name[name]
        request = factory.GetPrototype(method.input_type)
        response = factory.GetPrototype(method.output_type)
        is_stream = name == "WatchEvents"
        kind = channel.unary_stream if is_stream else channel.unary_unary
        made = kind(f"/{path}", request_serializer=request.SerializeToString, response_deserializer=response.FromString)
        return made(request(**fields), timeout=PATIENCE)

    return call


def expect(code, words, work):
    try:
        work()
    except grpc.RpcError as error:
        assert error.code() == code and words in error.details(), error
    else:
        raise AssertionError(f"{code} was expected")


def main(target, role, *tls):
    channel = connect(target, *tls)
    pools = {}
    for version in ("v1alpha", "v1"):
        pools[version] = descriptor_pool.DescriptorPool()
        names = reflect(channel, version, pools[version])
        for name in (SERVICE, "grpc.health.v1.Health"):
            assert name in names, names
    call = caller(channel, pools["v1"])

    for service in ("", SERVICE):
        assert call("grpc.health.v1.Health/Check", service=service).status == 1
    expect(grpc.StatusCode.NOT_FOUND, "", lambda: call("grpc.health.v1.Health/Check", service="nonsense"))

    assert call(f"{SERVICE}/GetVersion").version
    assert len(call(f"{SERVICE}/ListBackends").backends) == 0
    first = next(call(f"{SERVICE}/WatchEvents"))
    assert first.replay and first.WhichOneof("event") == "prober", first

    expect(grpc.StatusCode.NOT_FOUND, "`nginx9`", lambda: call(f"{SERVICE}/GetBackend", name="nginx9"))
    expect(grpc.StatusCode.INVALID_ARGUMENT, "77", lambda: call(f"{SERVICE}/WatchEvents", kinds=[77]).next())
    expect(grpc.StatusCode.UNAVAILABLE, "VPP", lambda: call(f"{SERVICE}/GetVPPInfo"))
    expect(grpc.StatusCode.RESOURCE_EXHAUSTED, "1 MiB", lambda: call(f"{SERVICE}/GetBackend", name="x" * (2 << 20)))

    sync = lambda: call(f"{SERVICE}/SyncLbState")
    if role == "view":
        expect(grpc.StatusCode.PERMISSION_DENIED, "requires the role operate", sync)
    else:
        expect(grpc.StatusCode.UNAVAILABLE, "VPP", sync)
    reload = lambda: call(f"{SERVICE}/ReloadConfig")
    if role == "admin":
        assert not reload().HasField("fault")
    else:
        expect(grpc.StatusCode.PERMISSION_DENIED, f"has {role}", reload)
    print("ok")


main(*sys.argv[1:])
