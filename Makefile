PROTOS := $(wildcard protos/cqar/v1/*.proto)

proto:
	.venv/bin/python -m grpc_tools.protoc --proto_path=protos --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)
