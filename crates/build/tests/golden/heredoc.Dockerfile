FROM busybox AS build
RUN <<EOF
echo $A
  two
EOF
RUN cat <<-A > x && cat <<B
	one
	A
two
B
COPY --chmod=644 <<"Q" <<P /dest/
$raw
Q
$expanded
P
