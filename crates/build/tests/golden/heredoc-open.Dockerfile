FROM busybox
RUN <<EOF
no end
