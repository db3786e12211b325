FROM busybox AS Build
COPY --from=build --chown=app:app --chmod=0755 ["a b","/c d/"]
FROM --platform=linux/amd64 scratch
COPY --from=0 / /
ADD --chown=1 x y z/
HEALTHCHECK NONE
