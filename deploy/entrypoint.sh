#!/bin/sh
# `docker run IMAGE upscale …` is `dtls upscale …`; the programs named here are started as they are.
case "$1" in
    dtls | prefect | dask | torchrun | python | sh) exec "$@" ;;
    *) exec dtls "$@" ;;
esac
